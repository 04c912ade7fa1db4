"""The operator tool: moves services between regions with data-plane calls only.

Pure core: `recovery` (the file), `plan` (what to do), `verdict` (what it came to). Shell: `arc`,
`dns`, `probe`, `journal`, `cli`. Between them stand the small protocols of `ports`, behind which
the tests put their own. The package needs nothing else of this repository: it can be copied to an
operator's machine with botocore and dnslib.
"""
