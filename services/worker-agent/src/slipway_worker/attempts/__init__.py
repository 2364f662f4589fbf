"""The life of one attempt on this machine, from the assignment to the clean-up."""
