// A server in a language other than Python.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(answer, "compiled %s", request.Header.Get("X-VH-Prefix"))
	})
	fmt.Println("compiled server starts")
	if err := http.ListenAndServe(":"+os.Getenv("VALOHAI_PORT"), nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
