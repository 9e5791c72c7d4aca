"""The DynamoDB adapter: the only package that knows botocore and aiobotocore."""
