"""`make demo`: the whole story in one run, measured from outside.

Lab up, traffic on every service, service1 moved to the other region and back, the primary region
killed without warning, everything evacuated from it, the region restored and everything moved home.
The operator tool and the load test run as the separate commands that they are; this package only
starts them, writes down what was commanded when, and lets `loadtest.evidence` judge.
"""
