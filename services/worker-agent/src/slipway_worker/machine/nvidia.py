"""What NVIDIA's driver says of the GPUs."""

import asyncio
import shutil


async def query_gpus(fields: str, seconds: float) -> str:
    """The driver's table of these fields, a line per GPU; empty where there is no driver or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        program,
        f"--query-gpu={fields}",
        "--format=csv,noheader,nounits",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace") if process.returncode == 0 else ""
