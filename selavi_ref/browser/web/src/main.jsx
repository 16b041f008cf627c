/** Puts the page into the document. */
import { effect } from "@preact/signals";
import { render } from "preact";
import { App } from "./app.jsx";
import { keepPlaces } from "./places.js";
import { applyPreferences } from "./preferences.js";
import { start } from "./store.js";
import "./styles/base.css";
import "./styles/header.css";
import "./styles/parts.css";
import "./styles/clusters.css";
import "./styles/cluster.css";
import "./styles/video.css";
import "./styles/map.css";
import "./styles/find.css";

effect(applyPreferences);
keepPlaces();
render(<App />, document.getElementById("app"));
start();
