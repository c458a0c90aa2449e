"""Services in a worker: finding them, and answering their endpoints."""
