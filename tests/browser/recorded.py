"""Run a module as `python -m` does, and write every address that its process asks for to a file.

python tests/browser/recorded.py FILE MODULE [OPTIONS]
"""

import os
import runpy
import sys


def main() -> None:
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def record(event: str, args: tuple) -> None:
        if event in ("socket.connect", "socket.sendto"):
            address = args[1]
            os.write(file, f"{address[0] if isinstance(address, tuple) else address}\n".encode())
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            os.write(file, f"{args[0]}\n".encode())

    sys.addaudithook(record)
    sys.argv = sys.argv[2:]
    sys.path[0] = os.getcwd()  # as `python -m`  # noqa: PTH109
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
