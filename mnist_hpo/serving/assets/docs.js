// Shows the OpenAPI document of this service. Everything is written as text, nothing as HTML.

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function code(text) {
  return element("code", text);
}

function nameOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(nameOf).filter((name) => name !== "null").join(" or ");
  if (schema.type === "array") return `list of ${nameOf(schema.items || {})}`;
  if (schema.enum) return schema.enum.join(", ");
  return schema.type || "anything";
}

function contentOf(content) {
  return Object.entries(content || {}).map(([type, media]) =>
    element("div", code(type), ": ", media.schema ? nameOf(media.schema) : "")
  );
}

function table(rows) {
  return element("table", element("tbody", ...rows.map((cells) =>
    element("tr", ...cells.map((cell) => element("td", ...[cell].flat())))
  )));
}

function operation(path, method, described) {
  const name = element("span", method.toUpperCase());
  name.className = "method";
  const made = element("section", element("h2", name, " ", code(path)), element("p", described.summary || ""));
  if (described.parameters) {
    made.append(element("h3", "Parameters"), table(described.parameters.map((parameter) =>
      [code(parameter.name), `${parameter.description || ""} (${nameOf(parameter.schema)})`]
    )));
  }
  if (described.requestBody) {
    made.append(element("h3", "Body"), ...contentOf(described.requestBody.content));
  }
  made.append(element("h3", "Responses"), table(Object.entries(described.responses).map(([status, response]) =>
    [code(status), [response.description || "", ...contentOf(response.content)]]
  )));
  return made;
}

function schema(name, described) {
  const made = element("section", element("h2", name), element("p", described.description || ""));
  const fields = Object.entries(described.properties || {});
  made.append(table(fields.map(([field, value]) =>
    [code(field), nameOf(value), value.description || ""]
  )));
  return made;
}

function show(api) {
  const main = document.getElementById("document");
  const paragraphs = (api.info.description || "").split(/\n\n/).filter(Boolean).map((text) => element("p", text));
  main.replaceChildren(element("h1", `${api.info.title} ${api.info.version}`), ...paragraphs);
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, described] of Object.entries(methods)) main.append(operation(path, method, described));
  }
  main.append(element("h1", "Schemas"));
  for (const [name, described] of Object.entries(api.components.schemas)) main.append(schema(name, described));
}

fetch("/openapi.json").then((response) => response.json()).then(show);
