"""One machine: Postgres, Valkey and SeaweedFS from wheels, and the supervisor that keeps them running."""
