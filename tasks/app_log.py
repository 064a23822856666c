"""Report how long the app's log is and its error lines beyond a place in it; changes nothing."""

from pyinfra import host

from fleet import recorder
from fleet.facts import Lines

MAX_LINES = 20
# A log that shrank was rotated: all of it is read, as the engine does with a log of its own machine.
SCRIPT = r"""
test -r "$1" || { echo unreadable; exit 0; }
size=$(stat -c %s "$1"); from=$2; test "$from" -le "$size" || from=0
echo "$size"
tail -c "+$((from + 1))" "$1" | grep -wE 'ERROR|CRITICAL|FATAL|PANIC|^Traceback' | head -n "$3" || true
"""

since = (host.data.get("log_sizes") or {}).get(host.name)
words = (host.data.app_log, str(since or 0), "0" if since is None else str(MAX_LINES))
lines = host.get_fact(Lines, script=SCRIPT, words=words)
size = int(lines[0]) if lines and lines[0].isdecimal() else None
recorder.report(size=size, errors=lines[1:])
