from regional import App

app = App("service1")


@app.route("/")
def root():
    return {"service": app.service, "region": app.region}
