// Requests at a fixed rate, however long answers take: what router_load.py says of itself, for a tenth of its CPU time.
//
// Built by slipway_testing.alias_moves where Go is installed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	kept          = 16
	answerSeconds = 10 * time.Second
	clock         = 1 // CLOCK_MONOTONIC, which is Python's time.monotonic()
)

var (
	endOfHead     = []byte("\r\n\r\n")
	versionHeader = []byte("x-slipway-version:")
	lengthHeader  = []byte("content-length:")
)

type answer struct {
	sent, read float64
	version    string
}

func (one answer) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{one.sent, one.read, one.version})
}

type load struct {
	address  string
	request  []byte
	idle     chan net.Conn
	mutex    sync.Mutex
	failures []string
	answers  []answer
}

func now() float64 {
	var at syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&at)), 0)
	return float64(at.Sec) + float64(at.Nsec)/1e9
}

func (l *load) one(number int) {
	ask := l.onNew
	if number%2 == 1 {
		ask = l.onKept
	}
	got, err := ask()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if err != nil {
		l.failures = append(l.failures, err.Error())
		return
	}
	l.answers = append(l.answers, got)
}

func (l *load) onNew() (answer, error) {
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	return l.ask(conn)
}

func (l *load) onKept() (answer, error) {
	conn := <-l.idle
	got, err := l.ask(conn)
	if err != nil {
		conn.Close()
		if conn, _ = net.Dial("tcp", l.address); conn == nil {
			return got, err
		}
	}
	l.idle <- conn
	return got, err
}

// ask sends a request and reads its answer to the end. It is noted as sent the moment before.
func (l *load) ask(conn net.Conn) (answer, error) {
	conn.SetDeadline(time.Now().Add(answerSeconds))
	got := answer{sent: now()}
	if _, err := conn.Write(l.request); err != nil {
		return got, err
	}
	buffer, size := make([]byte, 4096), 0
	for {
		count, err := conn.Read(buffer[size:])
		size += count
		if head, body, whole := bytes.Cut(buffer[:size], endOfHead); whole {
			length, _ := strconv.Atoi(header(head, lengthHeader))
			if len(body) >= length {
				got.read = now()
				got.version = header(head, versionHeader)
				if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || got.version == "" {
					return got, fmt.Errorf("%.60s", head)
				}
				return got, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return got, errors.New("closed without an answer")
		}
		if err != nil {
			return got, err
		}
		if size == len(buffer) {
			buffer = append(buffer, make([]byte, size)...)
		}
	}
}

func header(head, name []byte) string {
	for _, line := range bytes.Split(head, []byte("\r\n")) {
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], name) {
			return string(bytes.TrimSpace(line[len(name):]))
		}
	}
	return ""
}

func run() error {
	if len(os.Args) != 6 {
		return errors.New("usage: router-load HOST PORT PATH RATE KEY")
	}
	debug.SetGCPercent(800)
	rate, err := strconv.ParseFloat(os.Args[4], 64)
	if err != nil {
		return err
	}
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: models.example.org\r\nX-Api-Key: %s\r\n\r\n", os.Args[3], os.Args[5])
	l := &load{
		address:  net.JoinHostPort(os.Args[1], os.Args[2]),
		request:  []byte(request),
		idle:     make(chan net.Conn, kept),
		failures: []string{}, // an empty list, not null
		answers:  []answer{},
	}
	for range kept {
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			return err
		}
		l.idle <- conn
	}
	told := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(told)
	}()
	fmt.Println("running")
	var open sync.WaitGroup
	began, sent, late := time.Now(), 0, 0
	for running := true; running; {
		due := int(time.Since(began).Seconds() * rate)
		if float64(due-sent) > rate/20 {
			late++
		}
		for ; sent < due; sent++ {
			open.Add(1)
			go func(number int) {
				defer open.Done()
				l.one(number)
			}(sent)
		}
		select {
		case <-told:
			running = false
		case <-time.After(time.Millisecond):
		}
	}
	open.Wait()
	return json.NewEncoder(os.Stdout).Encode(
		map[string]any{"sent": sent, "late": late, "failures": l.failures, "answers": l.answers},
	)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
