#!/usr/bin/env python3
"""The health check of the container of Prefect's server: it answers at PREFECT_API_URL, and reaches its database."""

import os
import ssl
import sys
import urllib.request

_SECONDS = 5


def main() -> None:
    """End with exit code 1 and the reason if it is not ready."""
    url = f"{os.environ['PREFECT_API_URL']}/ready"
    authority = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=authority)
        with urllib.request.urlopen(url, timeout=_SECONDS, context=context):  # noqa: S310
            pass
    except (OSError, ValueError) as error:
        sys.exit(f"{url}: {error}")


main()
