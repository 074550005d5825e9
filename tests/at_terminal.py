"""Runs a command at a terminal of its own and answers its question. Standard library only.

at_terminal.py ANSWER COMMAND...: types ANSWER once the command has shown `[y/N]`; prints all that it showed, and exits as it did."""
import os
import pty
import sys

answer, command = sys.argv[1], sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
shown, asked = b"", False
while True:
    try:
        more = os.read(terminal, 4096)
    except OSError:  # Linux says so when the other side has ended.
        break
    if not more:
        break
    shown += more
    if not asked and b"[y/N]" in shown:
        asked = True
        os.write(terminal, answer.encode() + b"\n")
sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
