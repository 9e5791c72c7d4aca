"""A model of ordered queues: the events of one key are handled one at a time, in the order in which they were listed.

An event with a key is stored in no index. Its emitter then appends its id to the queue item of the key, which is in
the index, and which workers claim. The worker with the claim handles the event at the front, makes it terminal, and
only then pops it. A queue that grows too long moves its front part into `head`, and what lies between into pages.

The model has one key, few events, and short lists. It shows what the protocol needs:

- An event that is stored already, and QUEUED, is listed before its emit raises DuplicateEventError: the emitter that
  stored it may have died before it listed it. In a transaction, too. The transaction does not commit its other writes,
  because an earlier attempt of the same transaction may have stored the event.
- A write that lists an event may be applied long after its caller gave up. At worst it lists a terminal event again.
  A worker that finds a terminal event at the front pops it without its handlers.
- A worker starts an event from memory only if no other emit can have stored or listed it: the id is new, and PUT and
  the first APPEND were answered and applied.
- The POP of an operator asks for the token of the blocked queue, because it may be applied late, too.

The model leaves out time (leases just run out), several handlers of an event, transactions of a handler, and events
that are deleted, discarded or replaced. No write lists more events than a list has room for. A dead letter is not
retried while it is listed; the library does so, and lists it no second time. Keys share only the index, and the
transactions of users. The library loads no event ahead; the model can.
"""
