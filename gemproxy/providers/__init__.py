"""The upstream APIs that the proxy uses: a folder for each provider."""
