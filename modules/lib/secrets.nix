# Secrets are files outside the Nix store, handed to units by LoadCredential=.
{ lib }:
{
  # An option for the path of a secret.
  mkSecretOption =
    { description, example }:
    lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      inherit description example;
    };

  # The assertion that goes with it: everybody on the machine can read the store.
  notInStore = option: path: {
    assertion = path == null || !(lib.hasPrefix builtins.storeDir (toString path));
    message = ''
      ${option} is ${toString path}: that is in the Nix store, which everybody can read.
      Put the secret on the machine itself and write its path as a text: ${option} = "/etc/secrets/NAME";
    '';
  };
}
