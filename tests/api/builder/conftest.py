from tests.api.builder.harness import plain_logs, start, template_database

__all__ = ["plain_logs", "start", "template_database"]
