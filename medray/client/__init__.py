"""A service asked from Python: `Client` sends scans, events or SMILES to `medray serve`.

    with Client("https://scores.example:8000", token=token) as client:
        for one in client.predict("breast", files=paths).predictions:
            print(one["status"], one["scores"])

Imports neither torch nor Ray, and knows nothing of how a service is made: HTTP alone.
"""

from medray.client.answer import Answer
from medray.client.client import Client

__all__ = ["Answer", "Client"]
