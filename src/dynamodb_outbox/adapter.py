"""The API for authors of storage adapters: the protocol `Outbox`, the types of its methods, and shared helpers.

An adapter implements `Outbox`. The bus and the worker then deliver its events in the same way as events in DynamoDB:

    from dynamodb_outbox import OutboxEventBus
    from dynamodb_outbox.adapter import Claim, Outbox, OutboxOptions

    class RedisOutbox: ...  # the methods of Outbox

    bus = OutboxEventBus(RedisOutbox(...))

Applications do not need this module.
"""

from dynamodb_outbox.claims import Claim, EmitClaim, HandlerDone, Recovered
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, Item, decode_event, encode_event
from dynamodb_outbox.event_states import listed_state, sample_of, state_of
from dynamodb_outbox.fences import Fence, fence_of, fences_of
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.outcome import OUTCOME_NAMES, Completed, Failed, Held, Outcome, Released, Retry
from dynamodb_outbox.port import (
    LEASE_EXPIRED,
    LEASE_EXPIRED_TYPE,
    RENEWAL,
    SETTLED_FROM,
    TRANSACTION,
    FailedKey,
    Numbers,
    Outbox,
    OutboxOptions,
    Settled,
    counted_status,
    raise_unless_stored,
    refuse_repeated_ids,
)
from dynamodb_outbox.repairs import DISCARDABLE, Hold, Repaired
from dynamodb_outbox.reporting import OnError, Report
from dynamodb_outbox.shared_lease import LeaseMember, SharedLease
from dynamodb_outbox.transaction import TransactionWrite

__all__ = [
    "DISCARDABLE",
    "LEASE_EXPIRED",
    "LEASE_EXPIRED_TYPE",
    "MAX_ERROR_CHARS",
    "OUTCOME_NAMES",
    "RENEWAL",
    "SETTLED_FROM",
    "TRANSACTION",
    "Claim",
    "Completed",
    "EmitClaim",
    "Failed",
    "FailedKey",
    "Fence",
    "HandlerDone",
    "Held",
    "Hold",
    "Item",
    "LeaseMember",
    "Numbers",
    "Observers",
    "OnError",
    "Outbox",
    "OutboxOptions",
    "Outcome",
    "Recovered",
    "Released",
    "Repaired",
    "Report",
    "Retry",
    "Settled",
    "SharedLease",
    "TransactionWrite",
    "counted_status",
    "decode_event",
    "encode_event",
    "fence_of",
    "fences_of",
    "listed_state",
    "raise_unless_stored",
    "refuse_repeated_ids",
    "sample_of",
    "state_of",
]
