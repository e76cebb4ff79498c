"""`python -m api`: serve the API."""

import uvicorn

from api.app import create_app
from ocrfleet import failpoints, telemetry
from ocrfleet.settings import settings


def main() -> None:
    """Serve until SIGTERM or SIGINT; requests get a few seconds to end."""
    config = settings()
    telemetry.configure(config, "api")
    failpoints.arm(config.failpoints)
    uvicorn.run(
        create_app(config),
        host=config.api_host,
        port=config.api_port,
        access_log=False,
        log_config=None,
        server_header=False,
        # Longer than callers and load balancers keep an idle connection, so that none is closed under a request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
