"""The review page: where another person decides about a production rollout, on an origin of its own."""

from __future__ import annotations

from themisto_hub.control.review.app import create_review_app

__all__ = ["create_review_app"]
