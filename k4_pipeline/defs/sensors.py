"""The alert sensor: one message per failed asset check or failed run, through Apprise.

Dagster's own run-failure sensor is silent about a failed check that does not block (its run succeeds), and its alert
policies are part of the paid product; this sensor reads the check evaluations themselves.
"""

import time

import dagster as dg

from k4_pipeline.alerts.cursor import AlertCursor
from k4_pipeline.alerts.delivery import Messenger
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.run_events import alerts_of_run, runs_to_look_at
from k4_pipeline.errors import ConfigError

INTERVAL_S = 15


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends one message per failed asset check evaluation or failed run to the Apprise URLs in "
    "K4_ALERT_URLS (separated by spaces) or settings.json.",
)
def alerts_sensor(context: dg.SensorEvaluationContext, k4: K4Resource) -> dg.SkipReason:
    """Look at the runs that changed, send what is new, remember what was sent."""
    urls = k4.settings().alert_urls
    if not urls:
        return dg.SkipReason("no alert URLs are set (K4_ALERT_URLS, or alert_urls in settings.json)")
    try:
        messenger = Messenger(urls)
    except ConfigError as error:
        return dg.SkipReason(str(error))
    now = time.time()
    cursor = AlertCursor.load(context.cursor, now)
    runs = runs_to_look_at(context.instance, cursor.look_from)
    sent, waiting = 0, 0
    for run in runs:
        for alert in alerts_of_run(context.instance, run):
            if cursor.was_sent(run.run_id, alert.key):
                continue
            if messenger.send(alert):
                cursor.mark_sent(run.run_id, alert.key)
                sent += 1
            elif cursor.mark_failed(run.run_id, alert.key):
                context.log.error(f"given up after many attempts: {alert.title}")
            else:
                waiting += 1
    cursor.advance(now, (run.run_id for run in runs))
    context.update_cursor(cursor.dump())
    return dg.SkipReason(f"looked at {len(runs)} runs: {sent} messages sent, {waiting} could not be delivered yet")


SENSORS = [alerts_sensor]
