// matrix-bot-sdk as an appservice that stores what it is sent, durably, before it acknowledges.
//
// Arguments: directory of node_modules, homeserver, port, file. There is no SQLite for Node that needs neither a compiler nor a
// download beside the registry, so the events go into a file that is synced once a transaction: less work than SQLite.
const [directory, homeserver, port, file] = process.argv.slice(2);
const fs = require("fs");
const Module = require("module");

// Encryption is not measured; its native library is loaded by nobody.
const load = Module._load;
const nothing = new Proxy({}, { get: (_, key) => (key === "__esModule" ? undefined : new Proxy({}, { get: () => 0 })) });
Module._load = (name, ...rest) => (name.startsWith("@matrix-org/matrix-sdk-crypto") ? nothing : load(name, ...rest));
const { Appservice, LogLevel, LogService, MemoryStorageProvider } = require(`${directory}/node_modules/matrix-bot-sdk`);
LogService.setLevel(LogLevel.ERROR);

const out = fs.openSync(file, "a");
let arrived = [];
class Storage extends MemoryStorageProvider {
    setTransactionCompleted(transaction) {
        fs.writeSync(out, arrived.join(""));
        fs.fdatasyncSync(out);
        arrived = [];
        return super.setTransactionCompleted(transaction);
    }
}
const service = new Appservice({
    port: Number(port), bindAddress: "127.0.0.1", homeserverName: "vvt", homeserverUrl: homeserver,
    storage: new Storage(),
    registration: {
        id: "peer", url: null, as_token: "as", hs_token: "hs", sender_localpart: "bot",
        namespaces: { users: [{ exclusive: true, regex: "@peer_.*" }], rooms: [], aliases: [] },
    },
});
service.on("room.event", (_, event) => arrived.push(JSON.stringify(event) + "\n"));
service.begin();
