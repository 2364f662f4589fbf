"""Pure rules of dispatch: who goes where, why one waits, what can never run."""
