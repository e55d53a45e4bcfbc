<?php
// The source of index.php.
require __DIR__ . '/../told.php';
$database = new PDO('mysql:unix_socket=' . getenv('DB_SOCKET') . ';dbname=' . getenv('DB_NAME'), getenv('DB_USER'), getenv('DB_PASSWORD'));
echo '<title>PHP</title> release ', getenv('APP_RELEASE'), ' of ', $database->query('select database()')->fetchColumn(), told();
