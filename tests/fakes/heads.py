"""The head of a request, for endpoints."""


class FakeHead:
    origin = "http://localhost"

    def __init__(self, headers=(), parameters=(), query=b"", method=b"POST"):
        self.method = method
        self.header = dict(headers).get
        self.parameters = dict(parameters)
        self.query = query
