"""What operators read: one event, pages of events, and a sample of all."""
