"""Google's SDK in the major before the newest, which speaks to /v1beta."""

from with_google_genai import *  # noqa: F403
