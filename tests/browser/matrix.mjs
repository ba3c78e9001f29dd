// A person's client without a browser: the Matrix client-server API over the proxy's plain port, by Host, because
// getaddrinfo does not resolve NAME.localhost as browsers do.
import { request } from "node:http";

/** A person at one organisation. */
export class Person {
  #port; #host; #token; #since; #transaction = 0;

  constructor(port, organisation) {
    this.#port = port;
    this.#host = `${organisation}.localhost:${port}`;
  }

  async logIn(user, password) {
    const body = { type: "m.login.password", identifier: { type: "m.id.user", user }, password };
    this.#token = (await this.#call("POST", "/login", body)).access_token;
    return this;
  }

  async createRoom(name, invite) {
    return (await this.#call("POST", "/createRoom", { preset: "private_chat", name, invite })).room_id;
  }

  send(room, body) {
    const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/browser-${++this.#transaction}`;
    return this.#call("PUT", path, { msgtype: "m.text", body });
  }

  /** Waits by long poll until a message of that text has arrived in the room, and returns its sender. */
  async sees(room, text) {
    for (;;) {
      const since = this.#since ? `&since=${encodeURIComponent(this.#since)}` : "";
      const sync = await this.#call("GET", `/sync?timeout=30000${since}`);
      this.#since = sync.next_batch;
      const events = sync.rooms?.join?.[room]?.timeline?.events ?? [];
      const found = events.find(({ content }) => content?.body === text);
      if (found) return found.sender;
    }
  }

  #call(method, path, body) {
    const options = {
      host: "127.0.0.1", port: this.#port, method, path: `/_matrix/client/v3${path}`, timeout: 60_000,
      headers: { host: this.#host, ...(this.#token && { authorization: `Bearer ${this.#token}` }) },
    };
    return new Promise((resolve, reject) => {
      const call = request(options, async (response) => {
        let text = "";
        for await (const part of response.setEncoding("utf8")) text += part;
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`${method} ${path}: HTTP ${response.statusCode} ${text}`));
      });
      call.on("timeout", () => call.destroy(new Error(`${method} ${path}: no answer`)));
      call.on("error", reject);
      call.end(body && JSON.stringify(body));
    });
  }
}
