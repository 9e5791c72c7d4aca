"""The CloudFormation template with alarms, on the metrics of the `EmfObserver` and on those of DynamoDB itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from dynamodb_outbox.dashboards.alerts import section_of
from dynamodb_outbox.integrations import metrics

_PARAMETERS: Final = {
    "TableName": {"Type": "String", "Description": "The table of the outbox."},
    "TopicArn": {"Type": "String", "Description": "The SNS topic that alarms are sent to."},
    "Namespace": {"Type": "String", "Default": "DynamoDBOutbox", "Description": "The namespace of the EmfObserver."},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm: `statistic` of `metric` was beyond `limit` in so many minutes."""

    name: str
    metric: str
    statistic: Literal["Maximum", "Sum", "SampleCount"]
    limit: float
    minutes: int
    description: str
    missing: Literal["notBreaching", "breaching"] = "notBreaching"
    comparison: Literal["GreaterThanThreshold", "LessThanThreshold"] = "GreaterThanThreshold"
    of_dynamodb: bool = False


ALARMS: Final = (
    Alarm(
        name="OutboxStuck",
        metric=metrics.OLDEST_DUE_AGE.name,
        statistic="Maximum",
        limit=300,
        minutes=5,
        description="The oldest due event has waited for more than 5 minutes.",
    ),
    Alarm(
        name="OutboxNoWorker",
        metric=metrics.SLOTS.name,
        statistic="SampleCount",
        limit=1,
        minutes=3,
        description="No worker has polled the table with success for 3 minutes.",
        missing="breaching",
        comparison="LessThanThreshold",
    ),
    Alarm(
        name="OutboxDeadLettersRising",
        metric=metrics.FAILED.name,
        statistic="Sum",
        limit=20,
        minutes=1,
        description="More than 20 events became dead letters in a minute.",
    ),
    Alarm(
        name="OutboxDeadLetters",
        metric=f"{metrics.EVENTS.name}.failed",
        statistic="Maximum",
        limit=0,
        minutes=5,
        description="There are dead letters.",
    ),
    Alarm(
        name="OutboxLeaseLost",
        metric=metrics.LEASE_LOST.name,
        statistic="Sum",
        limit=0,
        minutes=10,
        description="Leases were lost in each of 10 minutes: handlers run twice.",
    ),
    Alarm(
        name="OutboxStorageErrors",
        metric=metrics.POLL_ERRORS.name,
        statistic="Sum",
        limit=0,
        minutes=5,
        description="Polls failed in each of 5 minutes.",
    ),
    Alarm(
        name="OutboxHeldLong",
        metric=f"{metrics.EVENTS.name}.held",
        statistic="Maximum",
        limit=0,
        minutes=60,
        description="Events have been held for an hour.",
    ),
    Alarm(
        name="OutboxWritesThrottled",
        metric="WriteThrottleEvents",
        statistic="Sum",
        limit=0,
        minutes=5,
        description="DynamoDB throttled writes in each of 5 minutes.",
        of_dynamodb=True,
    ),
    Alarm(
        name="OutboxReadsThrottled",
        metric="ReadThrottleEvents",
        statistic="Sum",
        limit=0,
        minutes=5,
        description="DynamoDB throttled reads in each of 5 minutes.",
        of_dynamodb=True,
    ),
)
"""The alarms, the most urgent first."""


def alarms(*, runbook: str) -> dict[str, Any]:
    """Return the CloudFormation template."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Alarms for a table of dynamodb-outbox. They need an EmfObserver in each process.",
        "Parameters": _PARAMETERS,
        "Resources": {alarm.name: _resource(alarm, runbook) for alarm in ALARMS},
    }


def _resource(alarm: Alarm, runbook: str) -> dict[str, Any]:
    dimension = "TableName" if alarm.of_dynamodb else "table"
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmName": {"Fn::Sub": f"{alarm.name}-${{TableName}}"},
            "AlarmDescription": f"{alarm.description} {section_of(alarm.name, runbook)}",
            "Namespace": "AWS/DynamoDB" if alarm.of_dynamodb else {"Ref": "Namespace"},
            "MetricName": alarm.metric,
            "Dimensions": [{"Name": dimension, "Value": {"Ref": "TableName"}}],
            "Statistic": alarm.statistic,
            "Period": 60,
            "EvaluationPeriods": alarm.minutes,
            "Threshold": alarm.limit,
            "ComparisonOperator": alarm.comparison,
            "TreatMissingData": alarm.missing,
            "AlarmActions": [{"Ref": "TopicArn"}],
            "OKActions": [{"Ref": "TopicArn"}],
        },
    }
