"""What happened to each attempt of an execution, and what fails in a project and how often."""
