from tests.api.builder.harness import plain_logs, template_database

__all__ = ["plain_logs", "template_database"]
