"""Has a server run `python ARGUMENTS` with this process's folder, environment and streams, and ends as that does.

python -I -S tests/warm_client.py SOCKET ARGUMENTS
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    path, *arguments = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()})  # noqa: PTH109 - imports little
        socket.send_fds(connection, [request.encode() + b"\n"], [0, 1, 2])
        said = b""
        while more := connection.recv(100):
            said += more
    code = int(said)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
