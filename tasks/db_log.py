"""Report how long the database server's log is and its lines of a pattern beyond a place in it; changes nothing."""

from pyinfra import host

from fleet import logs, recorder
from fleet.facts import Lines

words = logs.words_of(host.data.db_log, host.data.get("log_since"), host.data.log_pattern)
recorder.report(**logs.report_of(host.get_fact(Lines, script=logs.SCRIPT, words=words)))
