"use strict";

// Lets the browser install the page as an app where it is served. The manifest needs the page's own address, so it is
// written here. From a file, nothing can be installed.

if (location.protocol.startsWith("http")) {
  const address = location.origin + location.pathname;
  const icon = document.querySelector("link[rel=icon]"), large = document.querySelector("link[rel=apple-touch-icon]");
  const manifest = {
    name: document.title,
    short_name: "Digit",
    id: address,
    start_url: address,
    scope: address,
    display: "standalone",
    background_color: "#f3f5f8",
    theme_color: "#f3f5f8",
    icons: [
      { src: icon.href, sizes: "any", type: "image/svg+xml" },
      { src: large.href, sizes: "512x512", type: "image/png" },
    ],
  };
  const href = `data:application/manifest+json,${encodeURIComponent(JSON.stringify(manifest))}`;
  document.head.append(Object.assign(document.createElement("link"), { rel: "manifest", href }));
}
