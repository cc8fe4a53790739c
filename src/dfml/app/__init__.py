"""A local page for people with a task and no programming (extra ``app``)."""
