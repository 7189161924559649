"""The pure heart: no asyncio, no AWS library, no files, no clock; time comes in as an argument."""
