"""Publishers: handlers that forward events to other services.

A publisher is registered like any handler, so that retries, leases, dead letters and claim on emit work as for every
handler:

    bus.subscribe(["order.placed", "order.paid"], SqsPublisher(queue_url=QUEUE_URL))
"""

from dynamodb_outbox.publishers.eventbridge import EventBridgePublisher
from dynamodb_outbox.publishers.faststream import FastStreamPublisher
from dynamodb_outbox.publishers.kinesis import KinesisPublisher
from dynamodb_outbox.publishers.messages import MessageFormat
from dynamodb_outbox.publishers.sns import SnsPublisher
from dynamodb_outbox.publishers.sqs import SqsPublisher

__all__ = [
    "EventBridgePublisher",
    "FastStreamPublisher",
    "KinesisPublisher",
    "MessageFormat",
    "SnsPublisher",
    "SqsPublisher",
]
