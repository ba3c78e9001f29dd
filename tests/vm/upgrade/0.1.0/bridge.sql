PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE cursor (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO cursor VALUES('fhir','41');
CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO seen VALUES('CareTeam/89c96d-t-team/_history/1');
INSERT INTO seen VALUES('CareTeam/89c96d-t-team/_history/2');
INSERT INTO seen VALUES('CareTeam/waiting/_history/1');
INSERT INTO seen VALUES('Communication/89c96d-message-1/_history/1');
INSERT INTO seen VALUES('Communication/89c96d-message-1/_history/2');
INSERT INTO seen VALUES('Communication/89c96d-message-2/_history/1');
INSERT INTO seen VALUES('Communication/89c96d-message-2/_history/2');
INSERT INTO seen VALUES('Communication/89c96d-message-3/_history/1');
INSERT INTO seen VALUES('Communication/89c96d-message-3/_history/2');
INSERT INTO seen VALUES('Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca/_history/1');
INSERT INTO seen VALUES('Communication/mx-dcaff61b785a87aab76cc01b17601c3b904ad581/_history/1');
INSERT INTO seen VALUES('Communication/waiting/_history/1');
INSERT INTO seen VALUES('CommunicationRequest/89c96d-c-conversation/_history/1');
INSERT INTO seen VALUES('CommunicationRequest/89c96d-c-conversation/_history/2');
INSERT INTO seen VALUES('CommunicationRequest/waiting/_history/1');
INSERT INTO seen VALUES('Patient/89c96d-patient/_history/1');
INSERT INTO seen VALUES('Patient/waiting/_history/1');
INSERT INTO seen VALUES('Practitioner/89c96d-practitioner-1/_history/1');
INSERT INTO seen VALUES('Practitioner/89c96d-practitioner-2/_history/1');
INSERT INTO seen VALUES('RelatedPerson/89c96d-relative/_history/1');
INSERT INTO seen VALUES('RelatedPerson/waiting/_history/1');
INSERT INTO seen VALUES('Task/read-005726d625957e65aac93c74262bdfaa8e123035/_history/1');
INSERT INTO seen VALUES('Task/read-005726d625957e65aac93c74262bdfaa8e123035/_history/2');
INSERT INTO seen VALUES('Task/read-005726d625957e65aac93c74262bdfaa8e123035/_history/3');
INSERT INTO seen VALUES('Task/read-005726d625957e65aac93c74262bdfaa8e123035/_history/4');
INSERT INTO seen VALUES('Task/read-005726d625957e65aac93c74262bdfaa8e123035/_history/5');
INSERT INTO seen VALUES('Task/read-005726d625957e65aac93c74262bdfaa8e123035/_history/6');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/1');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/2');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/3');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/4');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/5');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/6');
INSERT INTO seen VALUES('Task/read-086ee751589e0b41f45b4675d46a3cb85593cac0/_history/7');
INSERT INTO seen VALUES('Task/read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29/_history/1');
INSERT INTO seen VALUES('Task/read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29/_history/2');
INSERT INTO seen VALUES('Task/read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29/_history/3');
INSERT INTO seen VALUES('Task/read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29/_history/4');
INSERT INTO seen VALUES('Task/read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29/_history/5');
INSERT INTO seen VALUES('Task/read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29/_history/6');
INSERT INTO seen VALUES('reading Communication/89c96d-message-1');
INSERT INTO seen VALUES('reading Communication/89c96d-message-2');
INSERT INTO seen VALUES('reading Communication/89c96d-message-3');
INSERT INTO seen VALUES('reading Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca');
INSERT INTO seen VALUES('reading Communication/mx-dcaff61b785a87aab76cc01b17601c3b904ad581');
INSERT INTO seen VALUES('reading CommunicationRequest/89c96d-c-conversation');
INSERT INTO seen VALUES('receipt !8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE @verify-89c96d:apotheek $Arecb0B8gb1Ez-YLqLh2OG1-nIB1ntsQRIvJFnA5R4g');
INSERT INTO seen VALUES('written Communication/89c96d-message-1');
INSERT INTO seen VALUES('written Communication/89c96d-message-2');
INSERT INTO seen VALUES('written Communication/89c96d-message-3');
CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        room_id TEXT NOT NULL
    );
INSERT INTO event VALUES(1,'$HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(2,'$XnNZeL7plcafvsdNsDDF3NKd_Hycvg5eXsTpKbDe_Cc','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(3,'$4POu6k-qsD9dFj0Rsgw6j1V594OwStLC1rajNM9L2y4','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(4,'$DYedD2ZetTgec-Jz5-IQiPiX2-yk11VBjRv_jTUBFuA','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(5,'$nmysCxBXQBP-Z_SJe0qJuN9Rz6mAUd9GlrXvaSK3eSA','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(6,'$9fMb5J0PhjqnT9CGGb4IKLxXrLgfv2Rdz5l78g4Ipu8','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(7,'$eSivY5WKnAKcZKIYDdyEY3_GcZdeagUMgGcfF-uAO2M','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(8,'$50exjMBLFCEX2PL_Ci2HygRGVkidm54xd2jit7VVb-Q','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(9,'$8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(10,'$pBxXMm3chly2Rx7OcaloHvP9uZD6E9ETTCVhQiifTcQ','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(11,'$VIqJr4UE9rZYjK0vlSM1uh80AvRXwP-nhFgFm-yO4Bk','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(12,'$iUGRTtN1OtbU03R_qwaJUm8Fb06ku_DbFlreMh1vYtU','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(13,'$OS2AJMEsGCxAk6UNPZFOlR0UVoHyQliyl7AAeao6dGk','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(14,'$-h2-49Fjo5VNC9KxzqHsFS1Lkbztvj9kXPE5JDWt3VI','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(15,'$q9VUWFZZCY7bndpe2qtz_U7pKKMxeQkC5phhYWgp8B4','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(16,'$3j8za85dPwrZ-u7L2ugIQABMyrDfrVj6e8bI74V8lBU','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(17,'$talYUfB-N4HuCo_GFz8GiNGr2YMX0ubTpIfeM1DyZRA','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(18,'$PAWuHNXgPZ2HaAtx16cFBpbZAqAUsmIBtg2xYBb6HZY','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(19,'$XHI9cIGUFqS3ew01loSSRUdp88HX9IJ377tFVLG6vWI','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(20,'$7ACqzjGqbnW9HYTL6mNgjc0wD47SO_5wxQcArctP3tw','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(21,'$pzVq9OwVvtp0kf7j0cEEoBhx_L6aR3Qqei_qhqoD4B4','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(22,'$tVELr7zx-ztMBig2zYV69SaOCKJAOV6X7LP2pTdTIAI','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(23,'$s0BF1LdOJqlgY3eqziOvwhdmiJDjEjNrNKxTwMC8Ris','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(24,'$NFks_zYE5Cc7ZG-w12Ya7mUfzgev4r4cb_sWg8Xco_g','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(25,'$Uk3kwZF9NMTEyjbpLF6ad6kfuXp7gmTFc9Rb6MUS-ug','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(27,'$i2JI-V5AGXqB62NccTA9LpHBpAyXm18ajOOvdi1bcYE','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(28,'$OJLRyPPhhX729vVcUSK09_coltN3M99jZGP8ygqWmxY','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(29,'$51xVNF6cfgmuaw06hY2ksE_7jAc7jaeMUI-ScZwwz1s','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(30,'$ev1UYcmkCSVBsp5qKQ-IoCT8rcSENF_TtkhPG_06TTk','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(31,'$GHjbpQA42W1LCDW5Tgrqluqf-cga9gmCxEgmUSgIHPM','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(33,'$JMZri8YO1HC-AlDSeIH_JBFFVU5jictqFMQfUmH1Lu0','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(34,'$e25cJn0AbR6GB93cqSmWwsNQqa-eMaOpppUOkd_lo8Y','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(37,'$LpafvmDM4a1BBX7oT4EC3B_6o9hc8yhyKJnagXaVCDI','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(38,'$-7DgPDFyf7TkHNolxPt04J9SSm7f2iIFAlKt6KEY_Oc','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(39,'$R55TDsKFusmCxxImg1uFjDPv9wrgS6DXvj0r-RAbrOM','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(42,'$knpWI1_5vzROIzU5Dx1kduxL6AnxsvFRa93VuEWLec0','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(45,'$fwY5zXp692zx_EYgNmsEMo8z3odr0ATg85PzqUyCyVg','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(47,'$z7KZpQMWXBK4JzU3F5iZ5xTBFPr2cBEsCY1GHdfe61s','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(48,'$Yds4F9iYPMTlLMoRtU_cgmBqLMEorvg2DoTRI_DFA5A','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(49,'$RkMIm3RJwGNq0uA0K5bYzogH9h8fdGrEQldVeiKBmIk','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(51,'$gUEv1Xw_22pkTv0JiKWP5l6VFslrQgeP444yfN9b9Wk','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(53,'$Arecb0B8gb1Ez-YLqLh2OG1-nIB1ntsQRIvJFnA5R4g','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(57,'$BU0wl6_GXzcrWw-NOMLSSfEmeFj0pXY6hMCpNgMZQHs','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
INSERT INTO event VALUES(59,'$VLCrL4lDla39iE2cbA7RVDxR_RkR9fsNZEhgm4nL8VM','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(60,'$UfSR49Wbtm1BvYS8gua2rMIjgYLO4fkx3RgLrPPF9dY','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(61,'$GBKZoBWy4QgZY-7otR5OxC1edIl_izq77DUQe9LeLic','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO event VALUES(62,'$tKbGFTynchuP6VOD7kN7WJa-icWgFzpsDt_HmMAkqQo','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
CREATE TABLE work (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        side INTEGER NOT NULL,
        lane TEXT NOT NULL,
        kind TEXT NOT NULL,
        payload TEXT NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        need TEXT,
        reason TEXT
    );
INSERT INTO work VALUES(54,0,'Patient/waiting','person','{"resourceType":"Patient","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:11.902969Z"}}',0,0,NULL,NULL);
INSERT INTO work VALUES(55,0,'RelatedPerson/waiting','person','{"resourceType":"RelatedPerson","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.016376Z"},"patient":{"reference":"Patient/waiting"},"name":[{"text":"Kees Groot"}]}',0,0,NULL,NULL);
INSERT INTO work VALUES(56,0,'CareTeam/waiting','CareTeam','{"resourceType":"CareTeam","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.100121Z"},"status":"active","subject":{"reference":"Patient/waiting"},"participant":[{"member":{"reference":"RelatedPerson/waiting"}}]}',0,0,NULL,NULL);
INSERT INTO work VALUES(57,0,'CommunicationRequest/waiting','CommunicationRequest','{"resourceType":"CommunicationRequest","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.139659Z"},"status":"active","subject":{"reference":"Patient/waiting"},"requester":{"reference":"RelatedPerson/waiting"},"recipient":[{"reference":"CareTeam/waiting"}],"payload":[{"contentString":"Before the upgrade."}]}',0,0,NULL,NULL);
INSERT INTO work VALUES(58,0,'CommunicationRequest/waiting','Communication','{"resourceType":"Communication","id":"waiting","meta":{"versionId":"1","lastUpdated":"2026-11-22T21:51:12.224928Z"},"status":"completed","sent":"2025-12-24T18:30:00Z","partOf":[{"reference":"CommunicationRequest/waiting"}],"sender":{"reference":"RelatedPerson/waiting"},"payload":[{"contentString":"Sent before, to be read after."}]}',0,0,NULL,NULL);
CREATE TABLE lane (
        side INTEGER NOT NULL,
        name TEXT NOT NULL,
        due INTEGER NOT NULL,
        owner TEXT,
        suspect INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (side, name)
    ) WITHOUT ROWID;
INSERT INTO lane VALUES(0,'CareTeam/waiting',0,NULL,0);
INSERT INTO lane VALUES(0,'CommunicationRequest/waiting',0,NULL,0);
INSERT INTO lane VALUES(0,'Patient/waiting',0,NULL,0);
INSERT INTO lane VALUES(0,'RelatedPerson/waiting',0,NULL,0);
CREATE TABLE room (place TEXT PRIMARY KEY, room_id TEXT NOT NULL UNIQUE) WITHOUT ROWID;
INSERT INTO room VALUES('CareTeam/89c96d-t-team','!HjJL3EC-4OAnfbTx9tY_uryKsMWmlyAVLuL0CN4BK78');
INSERT INTO room VALUES('CommunicationRequest/89c96d-c-conversation','!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE');
CREATE TABLE message (
        event_id TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        room_id TEXT NOT NULL,
        resource TEXT NOT NULL,
        part INTEGER NOT NULL,
        role INTEGER NOT NULL,
        origin INTEGER NOT NULL,
        digest TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO message VALUES('$-7DgPDFyf7TkHNolxPt04J9SSm7f2iIFAlKt6KEY_Oc',38,'!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','Communication/89c96d-message-2',0,0,0,'80823b75037f9eb01e1ae4b2a3db30df');
INSERT INTO message VALUES('$Arecb0B8gb1Ez-YLqLh2OG1-nIB1ntsQRIvJFnA5R4g',53,'!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','Communication/89c96d-message-3',0,0,0,'55d3ed119d0c04c15b8f08bae1903428');
INSERT INTO message VALUES('$RkMIm3RJwGNq0uA0K5bYzogH9h8fdGrEQldVeiKBmIk',49,'!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','Communication/mx-14c2d1c55c202c83945c56d7e6a8d213334b95ca',0,0,1,'ef2e13afb4538a786051eb1fa3bc33fa');
INSERT INTO message VALUES('$Uk3kwZF9NMTEyjbpLF6ad6kfuXp7gmTFc9Rb6MUS-ug',25,'!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','CommunicationRequest/89c96d-c-conversation',0,0,0,'e61289ac15532c7c267a79f0fcb5a068');
INSERT INTO message VALUES('$e25cJn0AbR6GB93cqSmWwsNQqa-eMaOpppUOkd_lo8Y',34,'!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','Communication/89c96d-message-1',0,0,0,'d72d6ad3e1b5176346420e7c0b176cbd');
INSERT INTO message VALUES('$gUEv1Xw_22pkTv0JiKWP5l6VFslrQgeP444yfN9b9Wk',51,'!8zo-RKh1tisXfIEEgY28KffalJNDIYkUw55IRi3PGqE','Communication/mx-dcaff61b785a87aab76cc01b17601c3b904ad581',0,0,1,'4c3082fe3bc45d01cc6b3392485246c7');
CREATE TABLE person (reference TEXT PRIMARY KEY, user_id TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO person VALUES('Practitioner/89c96d-practitioner-1','@verify-89c96d:apotheek');
INSERT INTO person VALUES('Practitioner/89c96d-practitioner-2','@verify-89c96d:huisarts');
CREATE TABLE task (request TEXT, owner TEXT, id TEXT NOT NULL, PRIMARY KEY (request, owner)) WITHOUT ROWID;
INSERT INTO task VALUES('CommunicationRequest/89c96d-c-conversation','Practitioner/89c96d-practitioner-1','read-086ee751589e0b41f45b4675d46a3cb85593cac0');
INSERT INTO task VALUES('CommunicationRequest/89c96d-c-conversation','Practitioner/89c96d-practitioner-2','read-005726d625957e65aac93c74262bdfaa8e123035');
INSERT INTO task VALUES('CommunicationRequest/89c96d-c-conversation','RelatedPerson/89c96d-relative','read-5a95bf53011f34cd88d9da48110ba5cf6ceb1b29');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('work',58);
INSERT INTO sqlite_sequence VALUES('event',63);
CREATE INDEX work_by_lane ON work (side, lane, state, seq);
CREATE INDEX work_by_state ON work (state, side, seq);
CREATE INDEX work_by_need ON work (need) WHERE need IS NOT NULL;
CREATE INDEX lane_by_due ON lane (side, due);
CREATE INDEX message_by_resource ON message (resource, seq);
CREATE INDEX message_by_room ON message (room_id, seq);
CREATE INDEX person_by_user ON person (user_id);
COMMIT;
PRAGMA user_version = 1;
