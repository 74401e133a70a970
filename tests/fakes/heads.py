"""The head of a request, for endpoints."""


class FakeHead:
    def __init__(self, headers=(), parameters=(), query=b""):
        self.header = dict(headers).get
        self.parameters = dict(parameters)
        self.query = query
