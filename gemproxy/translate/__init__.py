"""Pure translations between a client's dialect and a provider's."""
