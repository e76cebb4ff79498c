"""The Celery worker: one per device, with one engine each."""
