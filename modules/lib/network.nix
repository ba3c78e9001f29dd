# What a unit in the sandbox of hardening.nix adds when it talks over IP.
{
  PrivateNetwork = false;
  IPAddressDeny = "";
  RestrictAddressFamilies = [
    "AF_INET"
    "AF_INET6"
    "AF_UNIX"
  ];
}
