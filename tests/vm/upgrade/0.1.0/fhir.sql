PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE version (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        method TEXT NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (kind, id, version)
    ) STRICT;
INSERT INTO version VALUES(1,'Patient','89c96d-patient',1,1795384239015002,'PUT','{"resourceType":"Patient","id":"89c96d-patient","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.015002Z"},"name":[{"family":"Jansen","given":["Truus"]}],"identifier":[{"system":"http://fhir.nl/fhir/NamingSystem/pseudo-bsn","value":"89c96d-pseudonym"}]}');
INSERT INTO version VALUES(2,'RelatedPerson','89c96d-relative',1,1795384239028215,'PUT','{"resourceType":"RelatedPerson","id":"89c96d-relative","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.028215Z"},"patient":{"reference":"Patient/89c96d-patient"},"name":[{"text":"Kees Jansen"}]}');
INSERT INTO version VALUES(3,'Practitioner','89c96d-practitioner-1',1,1795384239048327,'PUT','{"resourceType":"Practitioner","id":"89c96d-practitioner-1","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.048327Z"},"name":[{"text":"Zorgverlener 1"}],"telecom":[{"system":"other","value":"@verify-89c96d:apotheek","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/contactpoint-purpose","valueString":"matrix-messaging"}]}]}');
INSERT INTO version VALUES(4,'Practitioner','89c96d-practitioner-2',1,1795384239080785,'PUT','{"resourceType":"Practitioner","id":"89c96d-practitioner-2","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.080785Z"},"name":[{"text":"Zorgverlener 2"}],"telecom":[{"system":"other","value":"@verify-89c96d:huisarts","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/contactpoint-purpose","valueString":"matrix-messaging"}]}]}');
INSERT INTO version VALUES(5,'CareTeam','89c96d-t-team',1,1795384239088006,'PUT','{"resourceType":"CareTeam","id":"89c96d-t-team","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.088006Z"},"status":"active","subject":{"reference":"Patient/89c96d-patient"},"participant":[{"member":{"reference":"Practitioner/89c96d-practitioner-1"}},{"member":{"reference":"Practitioner/89c96d-practitioner-2"}},{"member":{"reference":"RelatedPerson/89c96d-relative"}}]}');
INSERT INTO version VALUES(6,'CommunicationRequest','89c96d-c-conversation',1,1795384239107813,'PUT','{"resourceType":"CommunicationRequest","id":"89c96d-c-conversation","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.107813Z"},"status":"active","subject":{"reference":"Patient/89c96d-patient"},"requester":{"reference":"RelatedPerson/89c96d-relative"},"recipient":[{"reference":"CareTeam/89c96d-t-team"}],"payload":[{"contentString":"Hoe gaat het met moeder?"}]}');
INSERT INTO version VALUES(7,'Communication','89c96d-message-1',1,1795384239118712,'PUT','{"resourceType":"Communication","id":"89c96d-message-1","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.118712Z"},"status":"completed","sent":"2026-11-22T21:50:39.013594Z","subject":{"reference":"Patient/89c96d-patient"},"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"sender":{"reference":"RelatedPerson/89c96d-relative"},"payload":[{"contentString":"Zij at vanmorgen weinig."}]}');
INSERT INTO version VALUES(8,'Communication','89c96d-message-2',1,1795384239126212,'PUT','{"resourceType":"Communication","id":"89c96d-message-2","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:39.126212Z"},"status":"completed","sent":"2026-11-22T21:50:39.013633Z","subject":{"reference":"Patient/89c96d-patient"},"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"sender":{"reference":"RelatedPerson/89c96d-relative"},"payload":[{"contentString":"De temperatuur is 37,8."}]}');
INSERT INTO version VALUES(9,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',1,1795384244064539,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:44.064539Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"CommunicationRequest/89c96d-c-conversation"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:44.063Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(10,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',1,1795384244107184,'PUT','{"resourceType":"Task","id":"read-005726d625957e65aac93c74262bdfaa8e123035","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:44.107184Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"CommunicationRequest/89c96d-c-conversation"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.101Z","lastModified":"2026-11-22T21:50:44.101Z","owner":{"reference":"Practitioner/89c96d-practitioner-2"}}');
INSERT INTO version VALUES(11,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',1,1795384244121166,'PUT','{"resourceType":"Task","id":"read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:44.121166Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"CommunicationRequest/89c96d-c-conversation"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.120Z","lastModified":"2026-11-22T21:50:44.120Z","owner":{"reference":"RelatedPerson/89c96d-relative"}}');
INSERT INTO version VALUES(12,'Communication','89c96d-message-1',2,1795384244755603,'PUT','{"resourceType":"Communication","id":"89c96d-message-1","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:44.755603Z"},"identifier":[{"system":"https://matrix.org/event-id","value":"$e25cJn0AbR6GB93cqSmWwsNQqa-eMaOpppUOkd_lo8Y"}],"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","subject":{"reference":"Patient/89c96d-patient"},"sent":"2026-11-22T21:50:39.013594Z","sender":{"reference":"RelatedPerson/89c96d-relative"},"payload":[{"contentString":"Zij at vanmorgen weinig."}]}');
INSERT INTO version VALUES(13,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',2,1795384244764085,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:44.764085Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/89c96d-message-1"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:44.763Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(14,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',2,1795384244785103,'PUT','{"resourceType":"Task","id":"read-005726d625957e65aac93c74262bdfaa8e123035","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:44.785103Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/89c96d-message-1"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.101Z","lastModified":"2026-11-22T21:50:44.780Z","owner":{"reference":"Practitioner/89c96d-practitioner-2"}}');
INSERT INTO version VALUES(15,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',2,1795384244792522,'PUT','{"resourceType":"Task","id":"read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:44.792522Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"Communication/89c96d-message-1"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.120Z","lastModified":"2026-11-22T21:50:44.791Z","owner":{"reference":"RelatedPerson/89c96d-relative"}}');
INSERT INTO version VALUES(16,'Communication','89c96d-message-2',2,1795384245321501,'PUT','{"resourceType":"Communication","id":"89c96d-message-2","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:45.321501Z"},"identifier":[{"system":"https://matrix.org/event-id","value":"$-7DgPDFyf7TkHNolxPt04J9SSm7f2iIFAlKt6KEY_Oc"}],"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","subject":{"reference":"Patient/89c96d-patient"},"sent":"2026-11-22T21:50:39.013633Z","sender":{"reference":"RelatedPerson/89c96d-relative"},"payload":[{"contentString":"De temperatuur is 37,8."}]}');
INSERT INTO version VALUES(17,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',3,1795384245385033,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"3","lastUpdated":"2026-11-22T21:50:45.385033Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/89c96d-message-2"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:45.384Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(18,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',3,1795384245396330,'PUT','{"resourceType":"Task","id":"read-005726d625957e65aac93c74262bdfaa8e123035","meta":{"versionId":"3","lastUpdated":"2026-11-22T21:50:45.396330Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/89c96d-message-2"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.101Z","lastModified":"2026-11-22T21:50:45.395Z","owner":{"reference":"Practitioner/89c96d-practitioner-2"}}');
INSERT INTO version VALUES(19,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',3,1795384245432989,'PUT','{"resourceType":"Task","id":"read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29","meta":{"versionId":"3","lastUpdated":"2026-11-22T21:50:45.432989Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"Communication/89c96d-message-2"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.120Z","lastModified":"2026-11-22T21:50:45.431Z","owner":{"reference":"RelatedPerson/89c96d-relative"}}');
INSERT INTO version VALUES(20,'Communication','mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca',1,1795384254491886,'PUT','{"resourceType":"Communication","id":"mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:54.491886Z"},"identifier":[{"system":"https://matrix.org/event-id","value":"$RkMIm3RJwGNq0uA0K5bYzogH9h8fdGrEQldVeiKBmIk"}],"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","subject":{"reference":"Patient/89c96d-patient"},"sent":"2026-11-22T21:50:53.664Z","sender":{"reference":"Practitioner/89c96d-practitioner-1"},"payload":[{"contentString":"Ik kijk vanmiddag bij haar, apotheek."}]}');
INSERT INTO version VALUES(21,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',4,1795384254522210,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"4","lastUpdated":"2026-11-22T21:50:54.522210Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:54.521Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(22,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',4,1795384254530271,'PUT','{"resourceType":"Task","id":"read-005726d625957e65aac93c74262bdfaa8e123035","meta":{"versionId":"4","lastUpdated":"2026-11-22T21:50:54.530271Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.101Z","lastModified":"2026-11-22T21:50:54.529Z","owner":{"reference":"Practitioner/89c96d-practitioner-2"}}');
INSERT INTO version VALUES(23,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',4,1795384254534965,'PUT','{"resourceType":"Task","id":"read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29","meta":{"versionId":"4","lastUpdated":"2026-11-22T21:50:54.534965Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.120Z","lastModified":"2026-11-22T21:50:54.534Z","owner":{"reference":"RelatedPerson/89c96d-relative"}}');
INSERT INTO version VALUES(24,'Communication','mx-dcaff61b785a87aab76cc01b17601c3b904ad581',1,1795384254968861,'PUT','{"resourceType":"Communication","id":"mx-dcaff61b785a87aab76cc01b17601c3b904ad581","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:54.968861Z"},"identifier":[{"system":"https://matrix.org/event-id","value":"$gUEv1Xw_22pkTv0JiKWP5l6VFslrQgeP444yfN9b9Wk"}],"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","subject":{"reference":"Patient/89c96d-patient"},"sent":"2026-11-22T21:50:54.641Z","sender":{"reference":"Practitioner/89c96d-practitioner-2"},"payload":[{"contentString":"Ik kijk vanmiddag bij haar, huisarts."}]}');
INSERT INTO version VALUES(25,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',5,1795384255019330,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"5","lastUpdated":"2026-11-22T21:50:55.019330Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/mx-dcaff61b785a87aab76cc01b17601c3b904ad581"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:55.017Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(26,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',5,1795384255048063,'PUT','{"resourceType":"Task","id":"read-005726d625957e65aac93c74262bdfaa8e123035","meta":{"versionId":"5","lastUpdated":"2026-11-22T21:50:55.048063Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"Communication/mx-dcaff61b785a87aab76cc01b17601c3b904ad581"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.101Z","lastModified":"2026-11-22T21:50:55.040Z","owner":{"reference":"Practitioner/89c96d-practitioner-2"}}');
INSERT INTO version VALUES(27,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',5,1795384255070074,'PUT','{"resourceType":"Task","id":"read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29","meta":{"versionId":"5","lastUpdated":"2026-11-22T21:50:55.070074Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/mx-dcaff61b785a87aab76cc01b17601c3b904ad581"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.120Z","lastModified":"2026-11-22T21:50:55.069Z","owner":{"reference":"RelatedPerson/89c96d-relative"}}');
INSERT INTO version VALUES(28,'Communication','89c96d-message-3',1,1795384255479504,'PUT','{"resourceType":"Communication","id":"89c96d-message-3","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:55.479504Z"},"status":"completed","sent":"2026-11-22T21:50:55.476138Z","subject":{"reference":"Patient/89c96d-patient"},"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"sender":{"reference":"RelatedPerson/89c96d-relative"},"payload":[{"contentString":"Dank u, dat helpt."}],"inResponseTo":[{"reference":"Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca"}]}');
INSERT INTO version VALUES(29,'Communication','89c96d-message-3',2,1795384255677430,'PUT','{"resourceType":"Communication","id":"89c96d-message-3","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:55.677430Z"},"identifier":[{"system":"https://matrix.org/event-id","value":"$Arecb0B8gb1Ez-YLqLh2OG1-nIB1ntsQRIvJFnA5R4g"}],"partOf":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"inResponseTo":[{"reference":"Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca"}],"status":"completed","subject":{"reference":"Patient/89c96d-patient"},"sent":"2026-11-22T21:50:55.476138Z","sender":{"reference":"RelatedPerson/89c96d-relative"},"payload":[{"contentString":"Dank u, dat helpt."}]}');
INSERT INTO version VALUES(30,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',6,1795384255708460,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"6","lastUpdated":"2026-11-22T21:50:55.708460Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/89c96d-message-3"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:55.707Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(31,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',6,1795384255718213,'PUT','{"resourceType":"Task","id":"read-005726d625957e65aac93c74262bdfaa8e123035","meta":{"versionId":"6","lastUpdated":"2026-11-22T21:50:55.718213Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"requested","intent":"order","focus":{"reference":"Communication/89c96d-message-3"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.101Z","lastModified":"2026-11-22T21:50:55.717Z","owner":{"reference":"Practitioner/89c96d-practitioner-2"}}');
INSERT INTO version VALUES(32,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',6,1795384255728930,'PUT','{"resourceType":"Task","id":"read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29","meta":{"versionId":"6","lastUpdated":"2026-11-22T21:50:55.728930Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"Communication/89c96d-message-3"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.120Z","lastModified":"2026-11-22T21:50:55.728Z","owner":{"reference":"RelatedPerson/89c96d-relative"}}');
INSERT INTO version VALUES(33,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',7,1795384256472300,'PUT','{"resourceType":"Task","id":"read-086ee751589e0b41f45b4675d46a3cb85593cac0","meta":{"versionId":"7","lastUpdated":"2026-11-22T21:50:56.472300Z"},"basedOn":[{"reference":"CommunicationRequest/89c96d-c-conversation"}],"status":"completed","intent":"order","focus":{"reference":"Communication/89c96d-message-3"},"for":{"reference":"Patient/89c96d-patient"},"authoredOn":"2026-11-22T21:50:44.063Z","lastModified":"2026-11-22T21:50:55.797Z","owner":{"reference":"Practitioner/89c96d-practitioner-1"}}');
INSERT INTO version VALUES(34,'AuditEvent','seen-15f7fcf8dc29b24802915ae0a155957632a9f5ec',1,1795384256482044,'PUT','{"resourceType":"AuditEvent","id":"seen-15f7fcf8dc29b24802915ae0a155957632a9f5ec","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:50:56.482044Z"},"type":{"system":"http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle","code":"access","display":"Access/View Record Lifecycle Event"},"action":"R","recorded":"2026-11-22T21:50:55.797Z","outcome":"0","agent":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP","display":"information recipient"}]},"who":{"reference":"Practitioner/89c96d-practitioner-1"},"altId":"@verify-89c96d:apotheek","requestor":true}],"source":{"site":"vvt","observer":{"identifier":{"system":"https://matrix.org/server-name","value":"vvt"},"display":"fhir-bridge"},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]},"entity":[{"what":{"reference":"Communication/89c96d-message-3/_history/2"},"type":{"system":"http://hl7.org/fhir/resource-types","code":"Communication","display":"Communication"},"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"4","display":"Domain Resource"}}]}');
INSERT INTO version VALUES(35,'CommunicationRequest','89c96d-c-conversation',2,1795384256804409,'PUT','{"resourceType":"CommunicationRequest","id":"89c96d-c-conversation","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:56.804409Z"},"status":"completed","subject":{"reference":"Patient/89c96d-patient"},"requester":{"reference":"RelatedPerson/89c96d-relative"},"recipient":[{"reference":"CareTeam/89c96d-t-team"}],"payload":[{"contentString":"Hoe gaat het met moeder?"}]}');
INSERT INTO version VALUES(36,'CareTeam','89c96d-t-team',2,1795384256844425,'PUT','{"resourceType":"CareTeam","id":"89c96d-t-team","meta":{"versionId":"2","lastUpdated":"2026-11-22T21:50:56.844425Z"},"status":"inactive","subject":{"reference":"Patient/89c96d-patient"},"participant":[{"member":{"reference":"Practitioner/89c96d-practitioner-1"}},{"member":{"reference":"Practitioner/89c96d-practitioner-2"}},{"member":{"reference":"RelatedPerson/89c96d-relative"}}]}');
INSERT INTO version VALUES(37,'Patient','waiting',1,1795384271902969,'PUT','{"resourceType":"Patient","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:11.902969Z"}}');
INSERT INTO version VALUES(38,'RelatedPerson','waiting',1,1795384272016376,'PUT','{"resourceType":"RelatedPerson","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.016376Z"},"patient":{"reference":"Patient/waiting"},"name":[{"text":"Kees Groot"}]}');
INSERT INTO version VALUES(39,'CareTeam','waiting',1,1795384272100121,'PUT','{"resourceType":"CareTeam","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.100121Z"},"status":"active","subject":{"reference":"Patient/waiting"},"participant":[{"member":{"reference":"RelatedPerson/waiting"}}]}');
INSERT INTO version VALUES(40,'CommunicationRequest','waiting',1,1795384272139659,'PUT','{"resourceType":"CommunicationRequest","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.139659Z"},"status":"active","subject":{"reference":"Patient/waiting"},"requester":{"reference":"RelatedPerson/waiting"},"recipient":[{"reference":"CareTeam/waiting"}],"payload":[{"contentString":"Before the upgrade."}]}');
INSERT INTO version VALUES(41,'Communication','waiting',1,1795384272224928,'PUT','{"resourceType":"Communication","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.224928Z"},"status":"completed","sent":"2025-12-24T18:30:00Z","partOf":[{"reference":"CommunicationRequest/waiting"}],"sender":{"reference":"RelatedPerson/waiting"},"payload":[{"contentString":"Sent before, to be read after."}]}');
CREATE TABLE resource (
        rid INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES version (seq),
        updated INTEGER NOT NULL,
        UNIQUE (kind, id)
    ) STRICT;
INSERT INTO resource VALUES(1,'Patient','89c96d-patient',1,1795384239015002);
INSERT INTO resource VALUES(2,'RelatedPerson','89c96d-relative',2,1795384239028215);
INSERT INTO resource VALUES(3,'Practitioner','89c96d-practitioner-1',3,1795384239048327);
INSERT INTO resource VALUES(4,'Practitioner','89c96d-practitioner-2',4,1795384239080785);
INSERT INTO resource VALUES(5,'CareTeam','89c96d-t-team',36,1795384256844425);
INSERT INTO resource VALUES(6,'CommunicationRequest','89c96d-c-conversation',35,1795384256804409);
INSERT INTO resource VALUES(7,'Communication','89c96d-message-1',12,1795384244755603);
INSERT INTO resource VALUES(8,'Communication','89c96d-message-2',16,1795384245321501);
INSERT INTO resource VALUES(9,'Task','read-086ee751589e0b41f45b4675d46a3cb85593cac0',33,1795384256472300);
INSERT INTO resource VALUES(10,'Task','read-005726d625957e65aac93c74262bdfaa8e123035',31,1795384255718213);
INSERT INTO resource VALUES(11,'Task','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29',32,1795384255728930);
INSERT INTO resource VALUES(12,'Communication','mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca',20,1795384254491886);
INSERT INTO resource VALUES(13,'Communication','mx-dcaff61b785a87aab76cc01b17601c3b904ad581',24,1795384254968861);
INSERT INTO resource VALUES(14,'Communication','89c96d-message-3',29,1795384255677430);
INSERT INTO resource VALUES(15,'AuditEvent','seen-15f7fcf8dc29b24802915ae0a155957632a9f5ec',34,1795384256482044);
INSERT INTO resource VALUES(16,'Patient','waiting',37,1795384271902969);
INSERT INTO resource VALUES(17,'RelatedPerson','waiting',38,1795384272016376);
INSERT INTO resource VALUES(18,'CareTeam','waiting',39,1795384272100121);
INSERT INTO resource VALUES(19,'CommunicationRequest','waiting',40,1795384272139659);
INSERT INTO resource VALUES(20,'Communication','waiting',41,1795384272224928);
CREATE TABLE token (
        parameter TEXT NOT NULL, code TEXT NOT NULL, system TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, code, system, rid)
    ) STRICT, WITHOUT ROWID;
INSERT INTO token VALUES('Patient.identifier','89c96d-pseudonym','http://fhir.nl/fhir/NamingSystem/pseudo-bsn',1);
INSERT INTO token VALUES('Practitioner.telecom','@verify-89c96d:apotheek','other',3);
INSERT INTO token VALUES('Practitioner.telecom','@verify-89c96d:huisarts','other',4);
INSERT INTO token VALUES('CareTeam.status','inactive','',5);
INSERT INTO token VALUES('CommunicationRequest.status','completed','',6);
INSERT INTO token VALUES('Communication.identifier','$e25cJn0AbR6GB93cqSmWwsNQqa-eMaOpppUOkd_lo8Y','https://matrix.org/event-id',7);
INSERT INTO token VALUES('Communication.status','completed','',7);
INSERT INTO token VALUES('Communication.identifier','$-7DgPDFyf7TkHNolxPt04J9SSm7f2iIFAlKt6KEY_Oc','https://matrix.org/event-id',8);
INSERT INTO token VALUES('Communication.status','completed','',8);
INSERT INTO token VALUES('Task.intent','order','',9);
INSERT INTO token VALUES('Task.status','completed','',9);
INSERT INTO token VALUES('Task.intent','order','',10);
INSERT INTO token VALUES('Task.status','requested','',10);
INSERT INTO token VALUES('Task.intent','order','',11);
INSERT INTO token VALUES('Task.status','completed','',11);
INSERT INTO token VALUES('Communication.identifier','$RkMIm3RJwGNq0uA0K5bYzogH9h8fdGrEQldVeiKBmIk','https://matrix.org/event-id',12);
INSERT INTO token VALUES('Communication.status','completed','',12);
INSERT INTO token VALUES('Communication.identifier','$gUEv1Xw_22pkTv0JiKWP5l6VFslrQgeP444yfN9b9Wk','https://matrix.org/event-id',13);
INSERT INTO token VALUES('Communication.status','completed','',13);
INSERT INTO token VALUES('Communication.identifier','$Arecb0B8gb1Ez-YLqLh2OG1-nIB1ntsQRIvJFnA5R4g','https://matrix.org/event-id',14);
INSERT INTO token VALUES('Communication.status','completed','',14);
INSERT INTO token VALUES('AuditEvent.action','R','',15);
INSERT INTO token VALUES('AuditEvent.altid','@verify-89c96d:apotheek','',15);
INSERT INTO token VALUES('AuditEvent.entity-role','4','http://terminology.hl7.org/CodeSystem/object-role',15);
INSERT INTO token VALUES('AuditEvent.entity-type','Communication','http://hl7.org/fhir/resource-types',15);
INSERT INTO token VALUES('AuditEvent.outcome','0','',15);
INSERT INTO token VALUES('AuditEvent.site','vvt','',15);
INSERT INTO token VALUES('AuditEvent.source:identifier','vvt','https://matrix.org/server-name',15);
INSERT INTO token VALUES('AuditEvent.type','access','http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle',15);
INSERT INTO token VALUES('CareTeam.status','active','',18);
INSERT INTO token VALUES('CommunicationRequest.status','active','',19);
INSERT INTO token VALUES('Communication.status','completed','',20);
CREATE TABLE reference (
        parameter TEXT NOT NULL, target TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, target, rid)
    ) STRICT, WITHOUT ROWID;
INSERT INTO reference VALUES('RelatedPerson.patient','Patient/89c96d-patient',2);
INSERT INTO reference VALUES('CareTeam.participant','Practitioner/89c96d-practitioner-1',5);
INSERT INTO reference VALUES('CareTeam.participant','Practitioner/89c96d-practitioner-2',5);
INSERT INTO reference VALUES('CareTeam.participant','RelatedPerson/89c96d-relative',5);
INSERT INTO reference VALUES('CareTeam.patient','Patient/89c96d-patient',5);
INSERT INTO reference VALUES('CareTeam.subject','Patient/89c96d-patient',5);
INSERT INTO reference VALUES('CommunicationRequest.patient','Patient/89c96d-patient',6);
INSERT INTO reference VALUES('CommunicationRequest.recipient','CareTeam/89c96d-t-team',6);
INSERT INTO reference VALUES('CommunicationRequest.requester','RelatedPerson/89c96d-relative',6);
INSERT INTO reference VALUES('CommunicationRequest.subject','Patient/89c96d-patient',6);
INSERT INTO reference VALUES('Communication.part-of','CommunicationRequest/89c96d-c-conversation',7);
INSERT INTO reference VALUES('Communication.patient','Patient/89c96d-patient',7);
INSERT INTO reference VALUES('Communication.sender','RelatedPerson/89c96d-relative',7);
INSERT INTO reference VALUES('Communication.subject','Patient/89c96d-patient',7);
INSERT INTO reference VALUES('Communication.part-of','CommunicationRequest/89c96d-c-conversation',8);
INSERT INTO reference VALUES('Communication.patient','Patient/89c96d-patient',8);
INSERT INTO reference VALUES('Communication.sender','RelatedPerson/89c96d-relative',8);
INSERT INTO reference VALUES('Communication.subject','Patient/89c96d-patient',8);
INSERT INTO reference VALUES('Task.based-on','CommunicationRequest/89c96d-c-conversation',9);
INSERT INTO reference VALUES('Task.focus','Communication/89c96d-message-3',9);
INSERT INTO reference VALUES('Task.owner','Practitioner/89c96d-practitioner-1',9);
INSERT INTO reference VALUES('Task.patient','Patient/89c96d-patient',9);
INSERT INTO reference VALUES('Task.subject','Patient/89c96d-patient',9);
INSERT INTO reference VALUES('Task.based-on','CommunicationRequest/89c96d-c-conversation',10);
INSERT INTO reference VALUES('Task.focus','Communication/89c96d-message-3',10);
INSERT INTO reference VALUES('Task.owner','Practitioner/89c96d-practitioner-2',10);
INSERT INTO reference VALUES('Task.patient','Patient/89c96d-patient',10);
INSERT INTO reference VALUES('Task.subject','Patient/89c96d-patient',10);
INSERT INTO reference VALUES('Task.based-on','CommunicationRequest/89c96d-c-conversation',11);
INSERT INTO reference VALUES('Task.focus','Communication/89c96d-message-3',11);
INSERT INTO reference VALUES('Task.owner','RelatedPerson/89c96d-relative',11);
INSERT INTO reference VALUES('Task.patient','Patient/89c96d-patient',11);
INSERT INTO reference VALUES('Task.subject','Patient/89c96d-patient',11);
INSERT INTO reference VALUES('Communication.part-of','CommunicationRequest/89c96d-c-conversation',12);
INSERT INTO reference VALUES('Communication.patient','Patient/89c96d-patient',12);
INSERT INTO reference VALUES('Communication.sender','Practitioner/89c96d-practitioner-1',12);
INSERT INTO reference VALUES('Communication.subject','Patient/89c96d-patient',12);
INSERT INTO reference VALUES('Communication.part-of','CommunicationRequest/89c96d-c-conversation',13);
INSERT INTO reference VALUES('Communication.patient','Patient/89c96d-patient',13);
INSERT INTO reference VALUES('Communication.sender','Practitioner/89c96d-practitioner-2',13);
INSERT INTO reference VALUES('Communication.subject','Patient/89c96d-patient',13);
INSERT INTO reference VALUES('Communication.part-of','CommunicationRequest/89c96d-c-conversation',14);
INSERT INTO reference VALUES('Communication.patient','Patient/89c96d-patient',14);
INSERT INTO reference VALUES('Communication.sender','RelatedPerson/89c96d-relative',14);
INSERT INTO reference VALUES('Communication.subject','Patient/89c96d-patient',14);
INSERT INTO reference VALUES('AuditEvent.agent','Practitioner/89c96d-practitioner-1',15);
INSERT INTO reference VALUES('AuditEvent.entity','Communication/89c96d-message-3',15);
INSERT INTO reference VALUES('AuditEvent.entity','Communication/89c96d-message-3/_history/2',15);
INSERT INTO reference VALUES('RelatedPerson.patient','Patient/waiting',17);
INSERT INTO reference VALUES('CareTeam.participant','RelatedPerson/waiting',18);
INSERT INTO reference VALUES('CareTeam.patient','Patient/waiting',18);
INSERT INTO reference VALUES('CareTeam.subject','Patient/waiting',18);
INSERT INTO reference VALUES('CommunicationRequest.patient','Patient/waiting',19);
INSERT INTO reference VALUES('CommunicationRequest.recipient','CareTeam/waiting',19);
INSERT INTO reference VALUES('CommunicationRequest.requester','RelatedPerson/waiting',19);
INSERT INTO reference VALUES('CommunicationRequest.subject','Patient/waiting',19);
INSERT INTO reference VALUES('Communication.part-of','CommunicationRequest/waiting',20);
INSERT INTO reference VALUES('Communication.sender','RelatedPerson/waiting',20);
CREATE TABLE text (
        parameter TEXT NOT NULL, folded TEXT NOT NULL, exact TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, folded, exact, rid)
    ) STRICT, WITHOUT ROWID;
INSERT INTO text VALUES('Patient.family','jansen','Jansen',1);
INSERT INTO text VALUES('Patient.given','truus','Truus',1);
INSERT INTO text VALUES('Patient.name','jansen','Jansen',1);
INSERT INTO text VALUES('Patient.name','truus','Truus',1);
INSERT INTO text VALUES('Patient.phonetic','jansen','Jansen',1);
INSERT INTO text VALUES('Patient.phonetic','truus','Truus',1);
INSERT INTO text VALUES('RelatedPerson.name','kees jansen','Kees Jansen',2);
INSERT INTO text VALUES('RelatedPerson.phonetic','kees jansen','Kees Jansen',2);
INSERT INTO text VALUES('Practitioner.name','zorgverlener 1','Zorgverlener 1',3);
INSERT INTO text VALUES('Practitioner.phonetic','zorgverlener 1','Zorgverlener 1',3);
INSERT INTO text VALUES('Practitioner.name','zorgverlener 2','Zorgverlener 2',4);
INSERT INTO text VALUES('Practitioner.phonetic','zorgverlener 2','Zorgverlener 2',4);
INSERT INTO text VALUES('RelatedPerson.name','kees groot','Kees Groot',17);
INSERT INTO text VALUES('RelatedPerson.phonetic','kees groot','Kees Groot',17);
CREATE TABLE moment (
        parameter TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, low, high, rid)
    ) STRICT, WITHOUT ROWID;
INSERT INTO moment VALUES('Communication.sent',1795384239013594,1795384239013595,7);
INSERT INTO moment VALUES('Communication.sent',1795384239013633,1795384239013634,8);
INSERT INTO moment VALUES('Task.authored-on',1795384244063000,1795384244064000,9);
INSERT INTO moment VALUES('Task.modified',1795384255797000,1795384255798000,9);
INSERT INTO moment VALUES('Task.authored-on',1795384244101000,1795384244102000,10);
INSERT INTO moment VALUES('Task.modified',1795384255717000,1795384255718000,10);
INSERT INTO moment VALUES('Task.authored-on',1795384244120000,1795384244121000,11);
INSERT INTO moment VALUES('Task.modified',1795384255728000,1795384255729000,11);
INSERT INTO moment VALUES('Communication.sent',1795384253664000,1795384253665000,12);
INSERT INTO moment VALUES('Communication.sent',1795384254641000,1795384254642000,13);
INSERT INTO moment VALUES('Communication.sent',1795384255476138,1795384255476139,14);
INSERT INTO moment VALUES('AuditEvent.date',1795384255797000,1795384255798000,15);
INSERT INTO moment VALUES('Communication.sent',1766601000000000,1766601001000000,20);
CREATE TABLE hook (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        wanted INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL DEFAULT 0
    ) STRICT;
CREATE INDEX version_kind ON version (kind, seq);
CREATE INDEX version_updated ON version (updated);
CREATE INDEX resource_updated ON resource (kind, updated);
CREATE INDEX token_rid ON token (rid, parameter);
CREATE INDEX reference_rid ON reference (rid, parameter);
CREATE INDEX text_rid ON text (rid, parameter);
CREATE INDEX moment_rid ON moment (rid, parameter);
CREATE INDEX hook_kind ON hook (kind);
COMMIT;
PRAGMA user_version = 1;
