# The bridge on vvt's host, between FHIR there and people on another homeserver. The network module sets it up, with
# what it hands to its homeserver.
{
  imports = [ ./common/network.nix ];
}
