"""Engine, unit of work, migration runner, published views, loops, outbox and cursors, dead letters."""
