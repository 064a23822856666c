"""Report how long the app's log is and its error lines beyond a place in it; changes nothing."""

from pyinfra import host

from fleet import logs, recorder
from fleet.facts import Lines

PATTERN = r"\b(ERROR|CRITICAL|FATAL|PANIC)\b|^Traceback"
words = logs.words_of(host.data.app_log, (host.data.get("log_sizes") or {}).get(host.name), PATTERN)
recorder.report(**logs.report_of(host.get_fact(Lines, script=logs.SCRIPT, words=words)))
