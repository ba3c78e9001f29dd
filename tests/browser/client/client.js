// A minimal Matrix client on matrix-js-sdk, Element's own SDK: it does over the network what Element does. It reads
// Element's config.json, asks .well-known, logs in, joins, sends and shows, so that CORS, well-known and mixed
// content are tested where Element itself cannot be had.
import { AutoDiscovery, ClientEvent, RoomEvent, createClient } from "matrix-js-sdk";

const at = (selector) => document.querySelector(selector);
const tell = (problem) => { at("#problem").textContent = problem?.message ?? String(problem); };
window.addEventListener("error", (event) => tell(event.error ?? event.message));
window.addEventListener("unhandledrejection", (event) => tell(event.reason));

async function homeserver() {
  const response = await fetch("config.json");
  if (!response.ok) throw new Error(`config.json: HTTP ${response.status}`);
  const found = await AutoDiscovery.fromDiscoveryConfig((await response.json()).default_server_config);
  const { state, error, base_url: url } = found["m.homeserver"];
  if (state !== AutoDiscovery.SUCCESS) throw new Error(`discovery of ${url}: ${error ?? state}`);
  return url;
}

async function logIn(baseUrl, user, password) {
  const { user_id: userId, access_token: accessToken, device_id: deviceId } = await createClient({ baseUrl })
    .loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password });
  const client = createClient({ baseUrl, userId, accessToken, deviceId });
  client.on(ClientEvent.Room, () => list(client));
  client.on(RoomEvent.MyMembership, () => list(client));
  client.on(RoomEvent.Timeline, (event, room) => room.roomId === at("#room").dataset.id && show(room));
  await client.startClient({ initialSyncLimit: 20 });
  at("#login").hidden = true;
  at("#rooms").hidden = false;
}

function list(client) {
  at("#rooms ul").replaceChildren(...client.getRooms().map((room) => {
    const item = document.createElement("li");
    const open = document.createElement("button");
    open.textContent = room.name;
    open.dataset.membership = room.getMyMembership();
    open.onclick = async () => {
      if (room.getMyMembership() === "invite") await client.joinRoom(room.roomId);
      enter(client, client.getRoom(room.roomId));
    };
    item.append(open);
    return item;
  }));
}

function enter(client, room) {
  at("#room").dataset.id = room.roomId;
  at("#room").hidden = false;
  at("#room-name").textContent = room.name;
  at("#send").onsubmit = async (event) => {
    event.preventDefault();
    const { text } = event.target.elements;
    await client.sendTextMessage(room.roomId, text.value);
    text.value = "";
  };
  show(room);
}

function show(room) {
  const messages = room.getLiveTimeline().getEvents().filter((event) => event.getType() === "m.room.message");
  at("#timeline").replaceChildren(...messages.map((event) => {
    const item = document.createElement("li");
    item.textContent = `${event.getSender()}: ${event.getContent().body}`;
    return item;
  }));
}

const baseUrl = homeserver();
baseUrl.then((url) => { at("#homeserver").textContent = url; }, tell);
at("#login").onsubmit = async (event) => {
  event.preventDefault();
  const { user, password } = event.target.elements;
  await logIn(await baseUrl, user.value, password.value).catch(tell);
};
