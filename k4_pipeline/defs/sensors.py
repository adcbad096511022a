"""The alert sensor: what happened goes into the outbox of the home, and from there to every target through Apprise.

Dagster's own run-failure sensor is silent about a failed check that does not block (its run succeeds), and its alert
policies are part of the paid product; this sensor reads the check evaluations themselves.
"""

import dagster as dg

from k4_pipeline.defs.alert_look import look
from k4_pipeline.defs.resources import K4Resource

INTERVAL_S = 15


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells failed and unevaluated checks, failed, killed and stuck runs, missed schedule ticks, stale "
    "signals, new STRONG and GOOD signals and moves of the champion to the Apprise URLs in K4_ALERT_URLS (separated "
    "by spaces). Many facts come as a digest; `k4 alerts status` shows what waits.",
)
def alerts_sensor(context: dg.SensorEvaluationContext, k4: K4Resource) -> dg.SkipReason:
    """One look; what it did is the reason shown on the page of the sensor."""
    return dg.SkipReason(look(context.instance, k4.settings()).in_words())


SENSORS = [alerts_sensor]
