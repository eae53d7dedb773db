"use strict";

// The name, the version and the link are in the page's header already.
const withoutInfo = () => ({ wrapComponents: { InfoUrl: () => () => null } });

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  docExpansion: "list",
  layout: "BaseLayout",
  plugins: [withoutInfo],
  presets: [SwaggerUIBundle.presets.apis],
  // A bearer is gone with the page.
  persistAuthorization: false,
  syntaxHighlight: { activated: true, theme: "idea" },
  validatorUrl: null,
});
