"""A dashboard, alert rules and alarms for the metrics of the integrations.

`python -m dynamodb_outbox.dashboards grafana` writes a dashboard for Grafana. `prometheus-rules` instead of `grafana`
writes alert rules for Prometheus, and `cloudwatch` a CloudFormation template with alarms.
"""

from dynamodb_outbox.dashboards.render import KINDS, render

__all__ = ["KINDS", "render"]
