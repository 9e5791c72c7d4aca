"""What the library costs, each time next to the floor: the same requests, made by bare aiobotocore calls."""
