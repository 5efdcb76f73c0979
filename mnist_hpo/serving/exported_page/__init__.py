"""The drawing page as one HTML file with a model inside, which needs no service.

`description` turns a model into JSON, and `page` puts it into the service's page; the scripts in `assets` compute with
it in the browser.
"""
