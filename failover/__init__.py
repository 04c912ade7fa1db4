"""The operator tool: moves services between regions with data-plane calls only.

Pure core: `recovery` (the file), `plan` (what to do), `takeover` (where alarms send a service),
`database_plan` (what may be done with a database), `verdict` (what it came to). Shell: `arc`,
`cloudwatch`, `rds`, `operator_routes`, `dns`, `probe`, `journal`, `cli`. Between them stand the
small protocols of `ports`, behind which the tests put their own, and the steps: `move` and
`takeover_steps` for traffic, `database_steps` and `database_work` for a database.
The package needs nothing else of this repository: it can be copied to an operator's machine with
botocore and dnslib.
"""
